# Cuts the test's pictures out of stained images of the 2018 Data Science Bowl (CC0): python crop.py FOLDER, with images/ and labels/.
import sys
from PIL import Image

for name in ["13f2bec0a24c7034", "33a5b0ff232b4257", "52a6b8ae4c8e0a8a", "709e094e39629a9c"]:
    for kind, mode in [("images", "RGB"), ("labels", "L")]:
        picture = Image.open(f"{sys.argv[1]}/{kind}/{name}.png").convert(mode)
        w, h = picture.size
        box = ((w - 128) // 2, (h - 128) // 2, (w + 128) // 2, (h + 128) // 2)
        picture.crop(box).save(f"{kind}/{name}.png", optimize=True)
