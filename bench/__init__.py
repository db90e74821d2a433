"""plcbench: measures what keeping current values in step costs, and checks that the data is right."""
