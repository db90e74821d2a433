"""The Modbus application protocol: a request PDU in, a reply PDU out."""
