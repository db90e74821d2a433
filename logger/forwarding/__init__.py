"""Scans on their way into the database: gathered, stored, tried again, never lost."""

from logger.forwarding.forwarder import Forwarder, ForwarderFigures, ForwarderSettings, Stored, StreamSpec

__all__ = ["Forwarder", "ForwarderFigures", "ForwarderSettings", "Stored", "StreamSpec"]
