"""A model for many visitors: a web page to try it, and plain HTTP."""
