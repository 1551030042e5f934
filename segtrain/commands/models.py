"""List the networks, or their encoders, with parameters and operations."""

import argparse

EPILOG = """\
GFLOPs are floating-point operations, two a multiply-add, of one image in the forward pass; torch counts them without
computing anything. "Stride" is the encoder's coarsest feature, "aux" the feature with an auxiliary head by default.
Every encoder of --encoders goes with U-Net, as model/encoder=NAME; FCN-8s needs strides to 32, the dilated networks
(fcn, pspnet, deeplabv3, deeplabv3plus) an output_stride, SegNet one that pools. --encoder says what does not fit.
"""


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(
        prog="segtrain models",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names as in model=MODEL; all without any")
    parser.add_argument("--encoder", help="show the networks on this encoder, as in model/encoder=ENCODER")
    parser.add_argument("--encoders", action="store_true", help="list the encoders in place of the networks")
    parser.add_argument("--classes", type=int, default=21, help="channels of the logits (default: 21, PASCAL VOC's)")
    parser.add_argument("--size", type=int, default=512, help="pixels along a side of the image (default: 512)")
    arguments = parser.parse_args()

    from segtrain.errors import UserError, fail
    from segtrain.model_table import encoder_table, model_table

    try:
        if arguments.encoders:
            print(encoder_table(size=arguments.size))
        else:
            print(
                model_table(
                    arguments.models, encoder=arguments.encoder, num_classes=arguments.classes, size=arguments.size
                )
            )
    except UserError as error:
        fail(str(error), status=2)


if __name__ == "__main__":
    main()
