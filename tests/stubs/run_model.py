"""Runs one built model.py the way Triton's Python stub does; nothing of the project is imported.

argv: the model's folder, the folder of `triton_python_backend_utils`. stdin: the model's config as
JSON and a list of requests (input name -> array), pickled. stdout: see `main`, pickled.
"""

import importlib
import pickle
import sys


def main():
    model_folder, stubs = sys.argv[1:]
    config, requests = pickle.load(sys.stdin.buffer)
    # The stub appends these two (python_backend src/pb_stub.cc), then imports "1.model".
    sys.path += [f"{model_folder}/1", model_folder, stubs]
    model = importlib.import_module("1.model").TritonPythonModel()
    model.initialize({"model_config": config, "model_instance_name": "model_0_0"})
    import triton_python_backend_utils as pb_utils

    responses = model.execute(
        [
            pb_utils.InferenceRequest([pb_utils.Tensor(*item) for item in inputs.items()])
            for inputs in requests
        ]
    )
    answers = [
        (response.error.code, response.error.message)
        if response.error
        else {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors}
        for response in responses
    ]
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    pickle.dump((answers, files), sys.stdout.buffer)


if __name__ == "__main__":
    main()
