"""Scans on their way into the database: gathered, stored, tried again, never lost."""
