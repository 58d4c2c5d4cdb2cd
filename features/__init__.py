"""The feature store: a Feast repository, the private Redis behind it, and the fast way to read it online."""
