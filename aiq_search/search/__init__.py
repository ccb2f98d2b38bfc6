"""How a study is searched: what is tried next, what is stopped, who is confirmed."""
