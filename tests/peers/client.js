// node-smpp as a child process: configuration and orders as JSON lines on stdin, events on stdout.
// Orders: submit (messages), enquire (id: query_sm, cancel_sm and replace_sm of it), unbind.
// Events: bound, sent (frame), answer (n, status, id), enquired (what, status), deliver (frame), unbound, failed.
'use strict';

const fs = require('fs');
const readline = require('readline');
const smpp = require('smpp');

for (const tag of [0x1400, 0x1401, 0x1402]) {
  smpp.addTLV('vendor_' + tag.toString(16).padStart(4, '0'), { id: tag, type: smpp.types.tlv.buffer });
}

// Keep the frame itself beside what the library made of it.
const fromBuffer = smpp.PDU.prototype.fromBuffer;
smpp.PDU.prototype.fromBuffer = function (buffer) {
  Object.defineProperty(this, 'frame', { value: Buffer.from(buffer).toString('hex'), enumerable: false });
  return fromBuffer.call(this, buffer);
};

const say = (ev, values) => process.stdout.write(JSON.stringify(Object.assign({ ev }, values)) + '\n');
const statusName = (status) => Object.keys(smpp.errors).find((name) => smpp.errors[name] === status) || String(status);

let session = null;
let submitted = 0;
let leaving = false;

function start(config) {
  const options = { host: config.host || '127.0.0.1', port: config.port };
  if (config.ca) {
    Object.assign(options, { tls: true, ca: fs.readFileSync(config.ca), servername: config.server_name || 'localhost' });
  }
  session = smpp.connect(options, () => {
    session.socket.setNoDelay(true);
    const bind = { system_id: config.system_id, password: config.password, interface_version: 0x34 };
    session['bind_' + (config.mode || 'transceiver')](bind, (pdu) => {
      if (pdu.command_status) {
        say('failed', { what: 'bind', error: 'refused', status: statusName(pdu.command_status) });
        session.close();
      } else {
        say('bound', { binds: 1 });
      }
    });
  });
  session.on('deliver_sm', (pdu) => {
    say('deliver', { frame: pdu.frame });
    session.send(pdu.response());
  });
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
  session.on('error', (error) => {
    say('failed', { what: 'connection', error: error.code || 'Error', status: '' });
    process.exit(1);
  });
  session.on('close', () => process.exit(leaving ? 0 : 1));
}

function submit(message) {
  const n = submitted++;
  const fields = {
    source_addr_ton: message.from[0],
    source_addr_npi: message.from[1],
    source_addr: message.from[2],
    dest_addr_ton: message.to[0],
    dest_addr_npi: message.to[1],
    destination_addr: message.to[2],
    esm_class: message.esm_class || 0,
    data_coding: message.data_coding || 0,
    registered_delivery: message.registered === undefined ? 1 : message.registered,
    short_message: Buffer.from(message.body || '', 'hex'),
  };
  if (message.payload) {
    fields.message_payload = Buffer.from(message.payload, 'hex');
  }
  if (message.sar) {
    [fields.sar_msg_ref_num, fields.sar_total_segments, fields.sar_segment_seqnum] = message.sar;
  }
  for (const [tag, value] of message.vendor || []) {
    fields['vendor_' + tag.toString(16).padStart(4, '0')] = Buffer.from(value, 'hex');
  }
  const pdu = new smpp.PDU('submit_sm', fields);
  const toBuffer = pdu.toBuffer;
  Object.defineProperty(pdu, 'toBuffer', {
    enumerable: false,
    value: function () {
      const frame = toBuffer.call(this);
      say('sent', { frame: frame.toString('hex') });
      return frame;
    },
  });
  session.send(pdu, (answer) => {
    say('answer', { n, status: statusName(answer.command_status), id: answer.message_id || '' });
  });
}

function enquire(id) {
  const source = { source_addr_ton: 1, source_addr_npi: 1, source_addr: '447700900001', message_id: id };
  const destination = { dest_addr_ton: 1, dest_addr_npi: 1, destination_addr: '447700900123' };
  const orders = {
    query_sm: source,
    cancel_sm: Object.assign({}, source, destination),
    replace_sm: Object.assign({ short_message: 'other' }, source),
  };
  for (const [what, fields] of Object.entries(orders)) {
    session[what](fields, (answer) => say('enquired', { what, status: statusName(answer.command_status) }));
  }
}

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const order = JSON.parse(line);
  if (session === null) {
    start(order);
  } else if (order.op === 'submit') {
    order.messages.forEach(submit);
  } else if (order.op === 'enquire') {
    enquire(order.id);
  } else if (order.op === 'unbind') {
    leaving = true;
    session.unbind(() => {
      say('unbound', {});
      session.close();
    });
  }
});
lines.on('close', () => {
  leaving = true;
  if (session !== null) {
    session.destroy();
  }
});
