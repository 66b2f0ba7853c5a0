"""HTTP/2 for many small requests: frames, the client, and the server side that the sandbox stands on."""
