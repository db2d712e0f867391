"""Running servers of the OpenAI interface: what they are, what is sent to them, and what they say of
speculation."""
