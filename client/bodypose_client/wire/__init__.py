"""One question to a server, over gRPC or HTTP: address, access, connection, deadline, retries."""
