#!/usr/bin/env sh
# The four stages that made the preset fashion_mnist_rdp: F is a layer of an independent VGG first, then of the defended
# classifier, last its logits. About 45 minutes on one core. Ends with runs/rdp4/fashion_mnist_rdp.{toml,safetensors}.
set -eu
make_stage() { # folder, earlier folder, options
  folder=$1 start=$2
  shift 2
  mkdir -p "$folder"
  cp art_ext/presets/fashion_mnist_[csv]*.* "$folder"
  python examples/make_presets.py fashion_mnist_rdp --folder "$folder" --runs "$folder" ${start:+--start "$start"} "$@"
}
own="--features fashion_mnist_cnn --learning-rate 0.0005"
make_stage runs/rdp1 ""
make_stage runs/rdp2 runs/rdp1 $own --layer features --epochs 6 --pixel 1.0
make_stage runs/rdp3 runs/rdp2 $own --layer features --epochs 6 --clean-share 0.3
make_stage runs/rdp4 runs/rdp3 $own --layer head --epochs 4 --clean-share 0.3
