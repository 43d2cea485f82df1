"""Truncation and reshaping rules for next-token laws, and what they are built on."""
