"""The program's name and its commands, for help that must not wait for torch."""

PROGRAM = "python -m lit_l2softmax"

LIGHTNING = {
    "fit": "train a network and test it; leaves one folder a run",
    "validate": "score a checkpoint on the validation split",
    "test": "score a checkpoint on the test split",
    "predict": "classify your own pictures, or the first test images, with a checkpoint",
    "export": "write a checkpoint as safetensors and as ONNX, checked, for those who have nothing of this program",
}
COMMANDS = LIGHTNING | {
    "sweep": "run every setting of a W&B sweep file side by side and compare them, without a server",
    "report": "write the page on which a run or a sweep is read, report.html in its folder, once more",
    "dashboard": "make W&B workspaces and reports of Systems 1 and 2, sweeps and benchmarks, online or as files",
    "list": "name every experiment with what it shows and should reach",
    "show": "print a demonstration that trains nothing, and draw its picture",
    "plan": "compute what training a large classifier takes: memory, operations and communication of each process",
    "doctor": "say what is installed, what runs here and whether it computes what it should",
}
