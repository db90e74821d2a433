"""`plcbench suite`: one plan, many parts, each for both arms; one module a part."""
