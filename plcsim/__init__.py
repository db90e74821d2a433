"""plcsim: emulated PLCs over Modbus TCP, and the vocabulary that logger and bench share."""
