"""Decoders that choose whole sequences: several good ones, not one token."""
