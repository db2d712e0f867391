"""The spec_decode module: what drafting K tokens ahead buys, for every draft and K."""
