"""Numerics that every room stands on. Knows no room, no file format, no model."""
