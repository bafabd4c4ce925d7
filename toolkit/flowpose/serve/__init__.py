"""`flowpose serve`: a page of this machine on which a person moves live, and the same over HTTP and WebSocket.

Needs FastAPI, uvicorn, websockets, python-multipart and prometheus-client: pip install 'flowpose[serve]'.
"""
