"""XML that cannot do harm: elements, attributes and text; a document type or entity is refused before it is read."""

from __future__ import annotations

from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from whytransfer.errors import InputError


def parse(content: bytes, path: str) -> Element:
    """The root element. Raises InputError naming the file for broken XML and for declarations of types or entities.

    Entities can name other files and can grow a kilobyte into gigabytes ("billion laughs"); annotations need none.
    """

    def refuse(*_: object) -> NoReturn:
        raise InputError(f"{path} declares a document type or entities, which an annotation needs not: not read.")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except InputError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: an encoding that nobody knows
        raise InputError(f"{path} is no whole XML file ({error}): copy or unpack it again.") from None
    return builder.close()
