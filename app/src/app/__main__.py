"""Serves on APP_HOST:APP_PORT, by default on every interface at port 8000."""

import os

import uvicorn

uvicorn.run("app:app", host=os.environ.get("APP_HOST", "0.0.0.0"), port=int(os.environ.get("APP_PORT", "8000")))
