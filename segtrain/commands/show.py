"""Draw samples with their masks, as the network will see them."""

from itertools import islice
from pathlib import Path

import hydra
from omegaconf import DictConfig

from segtrain.config.check import check_keys, plain_config
from segtrain.config.locate import config_dir
from segtrain.config.schema import ShowConfig
from segtrain.jobs import job
from segtrain.launch import launch


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="show")
def main(cfg: DictConfig) -> None:
    """Compose and check as for training, load the first batches, draw."""
    with job():
        values = check_keys(cfg, ShowConfig)

        from PIL import Image

        from segtrain import build
        from segtrain.config.problems import check_objects
        from segtrain.data.samples import unbatch
        from segtrain.errors import UserError
        from segtrain.visualize import draw_samples, palette_of

        if values["num_samples"] < 1:
            raise UserError(f"num_samples: {values['num_samples']} is not a positive number of images")
        values = build.complete_classes(cfg, values, ShowConfig)
        check_objects(values, plain=plain_config(cfg), trains=False)
        values["loader"] |= {"num_workers": 0, "cache": "none"}  # a few samples are not worth more
        data = build.build_data(values, test_split=values["split"])
        data.batch_size = min(data.batch_size, len(data.samples("train")))
        data.batch_size -= data.batch_size % 2 if data.mix is not None and data.batch_size > 1 else 0
        batches = data.training_batches() if values["split"] == "train" else data.test_dataloader()
        samples = list(islice(unbatch(batches), values["num_samples"]))
        dataset = values["dataset"]
        picture = draw_samples(
            [image for image, _ in samples],
            [mask for _, mask in samples],
            palette=palette_of(dataset.get("palette"), len(dataset["class_names"])),
            class_names=dataset["class_names"],
            ignore_index=dataset["ignore_index"],
        )
        path = Path(values["output"]).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
        except (OSError, ValueError) as error:
            raise UserError(f"output: cannot write {path} ({error}); give output=PICTURE.png") from error
        print(f"{len(samples)} samples of {values['split']}: {values['output']}")


if __name__ == "__main__":
    launch(main, "show")
