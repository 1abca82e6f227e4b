"""Independent SMPP clients as child processes; each speaks the JSON lines that `smppd.demo` speaks."""
