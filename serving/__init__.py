"""The Ray Serve application: the wire, the claims, the champion, and the log written before any answer."""
