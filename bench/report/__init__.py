"""Reports: results in words and tables; every number traces to a field of the result."""
