"""The bytes of picture files as the pixels that efficientnet_lite0 was trained on."""

import io

import numpy
import triton_python_backend_utils as pb_utils
from PIL import Image, UnidentifiedImageError

SIZE = 224
#: The share of the shorter side that is looked at.
CROP = 224 / 256
MOST_PIXELS = 50_000_000
#: PPM can be written as text, which a verify.yml can hold.
FORMATS = ("JPEG", "PNG", "PPM")


def decode(data):
    """Return the picture in a file's bytes.

    :raises ValueError: there is none, in words for the one who sent it
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        # Only the file's head has been read so far: a small file can hold a picture that fills the memory.
        if picture.width * picture.height <= MOST_PIXELS:
            return picture.convert("RGB")
    except Exception as error:  # Pillow raises whatever its decoders meet.
        reason = "its format is unknown" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"IMAGE ({len(data)} bytes) cannot be read as a picture: {reason}. Send a whole JPEG or PNG file.") from None
    raise ValueError(f"IMAGE has {picture.width} x {picture.height} pixels; at most {MOST_PIXELS} are taken. Send a smaller one.")


def pixels(picture):
    """Return the middle of a picture as float32, 3 x 224 x 224, about -1 to 1."""
    side = max(int(CROP * min(picture.size)), 1)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    middle = picture.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return (numpy.asarray(middle, numpy.float32).transpose(2, 0, 1) - 127) / 128


def answer(request):
    images = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
    try:
        batch = numpy.stack([pixels(decode(data)) for data in images.reshape(-1)])
    except ValueError as error:
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
    return pb_utils.InferenceResponse([pb_utils.Tensor("PIXELS", batch)])


class TritonPythonModel:
    def execute(self, requests):
        return [answer(request) for request in requests]
