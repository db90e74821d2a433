"""`plcbench sweep`: trials over a grid."""
