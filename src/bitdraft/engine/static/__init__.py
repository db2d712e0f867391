"""Decoding by functions of fixed shape over state that stays on the device, for any number of prompts."""
