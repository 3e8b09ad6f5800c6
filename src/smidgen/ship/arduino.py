"""The C header as a library that the Arduino IDE takes as a zip."""

import io
import zipfile

from smidgen.ship.c_printer import renamed

_PROPERTIES = """name=NAME
version=1.0.0
author=smidgen
maintainer=smidgen
sentence=An image classifier in plain integers.
paragraph=ABOUT
category=Data Processing
url=https://example.invalid/smidgen
architectures=*
includes=NAME.h
"""
_EXAMPLE = """// Classifies the images that came with the library and prints what it takes.
#define NAME_TEST
#include <NAME.h>

void setup() {
  Serial.begin(115200);
  while (!Serial) {}
  Serial.print("wrong scores (must be 0): ");
  Serial.println(NAME_self_test());
}

void loop() {
  static int32_t scores[NAME_CLASSES];
  for (int example = 0; example < NAME_EXAMPLES; example++) {
    const uint8_t *image = NAME_example_images + example * NAME_CHANNELS * NAME_HEIGHT * NAME_WIDTH;
    const unsigned long before = micros();
    const int found = NAME_classify(image, scores);
    const unsigned long took = micros() - before;
    Serial.print("class ");
    Serial.print(found);
    Serial.print(" in ");
    Serial.print(took);
    Serial.print(" us");
#ifdef F_CPU
    Serial.print(", about ");
    Serial.print(took * (F_CPU / 1000000UL));
    Serial.print(" cycles");
#endif
    Serial.println();
  }
  delay(2000);
}
"""
_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest a zip can say: equal networks give equal files."""


def arduino(header: str, prefix: str, about: str) -> bytes:
    """Pack a header, an example and what the IDE wants to know.

    Args:
        header: With the self-test.
        prefix: Of its names, and the library's name.
        about: A line on where the network comes from.
    """
    example = f"{prefix}/examples/{prefix}_digits/{prefix}_digits.ino"
    members = {
        f"{prefix}/library.properties": renamed(_PROPERTIES, prefix).replace("ABOUT", about),
        f"{prefix}/src/{prefix}.h": header,
        example: renamed(_EXAMPLE, prefix),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), text)
    return packed.getvalue()
