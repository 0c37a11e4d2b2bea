"""FastAPI with pydantic models and torch, served by uvicorn, as its documentation says."""

import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from bench.peers.network import load, tensors

app = FastAPI()
network, facts = load()


class Window(BaseModel):
    """One window."""

    time: str
    values: list[list[list[float]]]


class Body(BaseModel):
    """One window or many."""

    data: Window | list[Window]


class Answer(BaseModel):
    """A forecast for each."""

    predictions: list[list[list[float]]]


@app.post("/predict")
def predict(body: Body) -> Answer:
    rows = body.data if isinstance(body.data, list) else [body.data]
    with torch.no_grad():
        output = network(*tensors([row.model_dump() for row in rows], facts))
    return Answer(predictions=output.tolist())


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
