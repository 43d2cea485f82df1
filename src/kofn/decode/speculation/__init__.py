"""Speculation: a cheap drafter proposes tokens, one pass of the target judges them all, and the law stays the target's."""
