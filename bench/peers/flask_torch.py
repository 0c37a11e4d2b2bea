"""The Flask app of a tutorial: request.get_json, model, jsonify; served by waitress, as Flask's documentation says."""

import sys

import torch
import waitress
from flask import Flask, Response, jsonify, request

from bench.peers.network import load, tensors

app = Flask(__name__)
network, facts = load()


@app.post("/predict")
def predict() -> Response:
    data = request.get_json()["data"]
    rows = data if isinstance(data, list) else [data]
    with torch.no_grad():
        output = network(*tensors(rows, facts))
    return jsonify({"predictions": output.tolist()})


if __name__ == "__main__":
    waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=4)
