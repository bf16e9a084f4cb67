"""One file a stage: match, then respond or forward."""
