// A second yardstick: the least a proxy does on node-smpp. Plain TCP with TCP_NODELAY, one session upstream, a map of ids,
// nothing kept, nothing decided. The library decodes and encodes every PDU.
//
//     NODE_PATH=tests/peers/node_modules node bench/node_relay.js UPSTREAM_PORT
//
// prints {"listening": PORT} when its upstream session is bound, and ends at SIGTERM or when its standard input closes.
'use strict';

const smpp = require('smpp');

const ROK = 0;
const RX_T_APPN = 0x64; // try again later: the customer has gone
const BINDS = ['bind_transceiver', 'bind_transmitter', 'bind_receiver'];
const senders = new Map(); // the upstream's message id -> the customer's session

function fail(why) {
  process.stderr.write('node relay: ' + why + '\n');
  process.exit(1);
}

function keep(session) {
  session.socket.setNoDelay(true);
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
}

const upstream = smpp.connect({ host: '127.0.0.1', port: Number(process.argv[2]) }, () => {
  keep(upstream);
  upstream.bind_transceiver({ system_id: 'bench', password: 'bench', interface_version: 0x34 }, (answer) => {
    if (answer.command_status !== ROK) {
      fail('the upstream refused the bind');
    }
    server.listen(0, '127.0.0.1', 1024, () => {
      process.stdout.write(JSON.stringify({ listening: server.address().port }) + '\n');
    });
  });
});
upstream.on('error', (error) => fail(error.code || 'no upstream'));
upstream.on('close', () => process.exit(0));

// A receipt is acknowledged upstream when the customer has acknowledged it.
upstream.on('deliver_sm', (receipt) => {
  const sequence = receipt.sequence_number;
  const acknowledge = (status) => {
    upstream.send(new smpp.PDU('deliver_sm_resp', { sequence_number: sequence, command_status: status, message_id: '' }));
  };
  const customer = senders.get(receipt.receipted_message_id);
  senders.delete(receipt.receipted_message_id);
  receipt.sequence_number = 0; // the library gives it the next one of the customer's session
  if (!customer || !customer.send(receipt, () => acknowledge(ROK))) {
    acknowledge(RX_T_APPN);
  }
});

const server = smpp.createServer((customer) => {
  keep(customer);
  for (const bind of BINDS) {
    customer.on(bind, (pdu) => customer.send(pdu.response({ system_id: 'bench' })));
  }
  customer.on('unbind', (pdu) => customer.send(pdu.response(), () => customer.close()));
  customer.on('error', () => customer.destroy());

  // Answered with the upstream's id when the upstream has answered.
  customer.on('submit_sm', (message) => {
    const sequence = message.sequence_number;
    message.sequence_number = 0;
    upstream.send(message, (answer) => {
      const status = answer.command_status;
      if (status === ROK) {
        senders.set(answer.message_id, customer);
      }
      customer.send(
        new smpp.PDU('submit_sm_resp', { sequence_number: sequence, command_status: status, message_id: answer.message_id })
      );
    });
  });
});

process.stdin.on('end', () => process.exit(0)).resume();
process.on('SIGTERM', () => process.exit(0));
