"""Both modules joined: precision first, then draft and K, and a setting that can be used as it stands."""
