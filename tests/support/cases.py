"""The inputs that were handed to us, with what is right for each; and catalogues as public collections have them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "cases" / "images"

#: Which product has which image, by case.
CATALOGUES: dict[str, dict[str, str | None]] = {
    "a-basename": {"A100": "images/A100/front.jpg", "B200": "images/B200/front.jpg", "C300": None},
    "b-dotdot": {name: f"images/{name}/front.jpg" for name in ("A100", "B200", "C300")},
    "c-backslash": {"1": "images/shoe.jpg", "2": "images/bag.jpg", "3": "images/hat.jpg"},
    "c-dotslash-case-space": {
        "1": "images/IMG_1.JPG",
        "2": "images/img_2.jpg",
        "3": "images/img_3.jpg",
        "4": "images/img 4.jpg",
        "5": "images/img_5.jpeg",
    },
    "d-nfd": {
        str(number): unicodedata.normalize("NFD", f"{name}.jpg")
        for number, name in enumerate(["Müller Stiefel", "crème brûlée", "Ångström"], 1)
    },
    "e-zeros-styles": {name: f"images/{name}.jpg" for name in ("00001", "00002", "00003")},
    "f-decimal-ids": {name: f"images/{name}.jpg" for name in ("1.1", "1.10", "1.2", "2.50")},
    "g-semicolon-quoted": {"1": "1.jpg", "2": "2.jpg"},
    "h-multiline": {"1": "1.jpg", "2": "2.jpg", "3": "3.jpg"},
    "k-names": {
        name[:2]: name
        for name in ("p1.jpg", "p2.jpg?v=1500403514", "p3", "p4.jpg_large", "p5.jpg.download", "p6.jxl", "p7.psd")
    },
    "m-headers": {"1": "1.jpg", "2": "2.jpg"},
    "s-checkpoints": {name: f"images/{name}.jpg" for name in ("1", "2", "3")},
    "z-backslash.zip": {name: f"shop/images/{name}.jpg" for name in ("1", "2", "3")},
}

#: By collection: the catalogue's name and text, and which product has which image.
PUBLIC = {
    "clothing": (
        "images.csv",
        "image,sender_id,label,kids\n7f1a,124,Not sure,False\n02b9,7,T-Shirt,False\n",
        {"7f1a": "images/7f1a.jpg", "02b9": "images/02b9.jpg"},
    ),
    "grocery": (
        "classes.csv",
        "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic Image Path (str),"
        "Product Description Path (str)\n"
        "Golden-Delicious,0,Apple,0,/iconic/Fruit/Apple/Golden-Delicious_Iconic.jpg,/iconic/Fruit/Apple/1.txt\n"
        "Oatly,1,Oat-Milk,20,/iconic/Packages/Milk/Oatly_Iconic.jpg,/iconic/Packages/Milk/2.txt\n",
        {
            "Golden-Delicious_Iconic": "iconic/Fruit/Apple/Golden-Delicious_Iconic.jpg",
            "Oatly_Iconic": "iconic/Packages/Milk/Oatly_Iconic.jpg",
        },
    ),
}


def image_case(name: str) -> Path:
    """An input that was handed to us; the test is skipped where it is not here."""
    if not (FOLDER / name).exists():
        pytest.skip("the shared cases are not here")
    return FOLDER / name
