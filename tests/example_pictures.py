"""The example pictures that the package brings, drawn again.

python -m tests.example_pictures        # writes client/bodypose_client/pictures/examples
"""

from bodypose_client.files.picture_file import write_picture
from bodypose_client.pictures.examples import EXAMPLES
from bodypose_tools.scenes.examples import EXAMPLES as SCENES

if __name__ == "__main__":
    for name, path in EXAMPLES.items():
        write_picture(path, SCENES[name].draw().pixels)
