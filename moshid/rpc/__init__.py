"""The control plane: JSON-RPC 2.0 over a Unix socket, one JSON text a line."""
