"""The oracle: is what loggers and operators stored what the machines said?"""
