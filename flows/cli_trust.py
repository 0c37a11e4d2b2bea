"""Holds the commands about trust: sign, verify, seal, and whose model a parcel is."""

from pathlib import Path
from typing import Annotated

import typer

from flows import console
from flows.options import AsJson
from flows.workshop import open_workshop

app = typer.Typer()
watermark_app = typer.Typer(help="Whose model is it?", no_args_is_help=True)

Named = Annotated[str, typer.Argument(help="A product that is live, or the folder of a parcel.")]
Held = Annotated[str, typer.Argument(help="A live product, the folder of a parcel, or the src folder of a Bento.")]
SealKeyFile = Annotated[Path | None, typer.Option("--key-file", help="The key of sealed weights, 32 bytes in hex.")]
SealKeyCommand = Annotated[str, typer.Option("--key-command", help="Prints the key, e.g. a KMS client.")]


@app.command()
def sign(
    name: Named,
    new_key: Annotated[bool, typer.Option("--new-key", help="With a new key; the old one stays trusted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Sign a parcel with the key of this home (OpenSSF model-signing); a folder's signature is put beside it.

    Example: roadworthy sign freeway
    """
    from flows.trust import sign_named

    record = sign_named(open_workshop(), name, new_key=new_key)
    if as_json:
        console.emit(record)
    else:
        console.say(f"{name}: signed with key {record['key'][:12]}\n  {record['signature']}\n  {record['public_key']}")


@app.command()
def verify(
    name: Held,
    signature: Annotated[Path | None, typer.Option(help="Default: FOLDER.sig, else the one of this home.")] = None,
    key: Annotated[Path | None, typer.Option(help="Public keys to believe, a file or folder; default: ours.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold a parcel against its signature; exit status 1 and the reason when it is not as it was signed.

    Example: roadworthy verify freeway
    """
    from flows.trust import verify as verify_named

    found = verify_named(open_workshop(), name, signature, key)
    if as_json:
        console.emit(found.record())
    else:
        console.say(f"{name}: {len(found.files)} files are as key {found.key_id[:12]} signed them ({found.folder})")


@app.command()
def seal(
    name: Named,
    target: Annotated[Path, typer.Argument(help="A new folder for the sealed copy.")],
    key_file: SealKeyFile = None,
    key_command: SealKeyCommand = "",
    as_json: AsJson = False,
) -> None:
    """Copy a parcel with its weights sealed (AES-256-GCM) and sign the copy; default key: HOME/keys/seal.key.

    Example: roadworthy seal freeway sealed-freeway --key-command "vault read -field=key secret/freeway"
    """
    from flows.trust import seal_named

    record = seal_named(open_workshop(), name, target, key_file, key_command)
    if as_json:
        console.emit(record)
    else:
        console.say(f"{name}: sealed with key {record['seal_key'][:12]}\n  {target}\n  {record['signature']}")


@watermark_app.command("check")
def watermark_check(
    name: Annotated[str, typer.Argument(help="A live product, the folder of a parcel, or an ONNX file.")],
    owner: Annotated[str, typer.Option(help="Compare the bits that are read with this owner's.")] = "",
    key_file: SealKeyFile = None,
    key_command: SealKeyCommand = "",
    as_json: AsJson = False,
) -> None:
    """Look for the mark of this home's key in the weights; exit status 1 when there is none.

    Example: roadworthy watermark check freeway
    """
    from flows.watermark import look
    from infra.crypto import seal_key

    record = look(open_workshop(), name, owner, seal_key(key_file, key_command))
    if as_json:
        console.emit(record)
    else:
        found = "marked with our key" if record["marked"] else "no mark of our key"
        chance = f"{record['agreeing']} of {record['pilots']} bits agree, p = {record['p_value']:.1e}"
        console.say(f"{name}: {found} ({chance}), owner's bits {record['bits']}")
        if owner:
            console.say(f"  they are {'' if record['owner_agrees'] else 'not '}the bits of {owner}")
    if not record["marked"]:
        raise typer.Exit(1)
