"""The resident model: catalogue, worker process, generation step, supervision."""
