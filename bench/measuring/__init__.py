"""What is measured: latencies, processes, the server, the environment."""
