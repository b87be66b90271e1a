"""What the fuzzer's inputs are held to, known to the command and to the process that it starts."""

from pose_runtime.spec import ImageLimits, PipelineSpec

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)  # small, so that it is quick
# A picture within these takes milliseconds, so that a hang is one.
LIMITS = ImageLimits(max_bytes=2**20, max_pixels=2_000_000, max_decode_ms=200)
MAX_INPUT_BYTES = 2**16
