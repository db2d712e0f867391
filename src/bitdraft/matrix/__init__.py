"""Many runs from one file: a list of them, or products of models, formats, drafts and texts."""
