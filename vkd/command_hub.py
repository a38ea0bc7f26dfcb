"""`vkd hub pull`, `vkd hub push` and `vkd hub card`. Tokens come from the client's login or HF_TOKEN, never a flag."""
