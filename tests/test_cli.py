"""The command line, as its user meets it: what it prints, writes and refuses."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageOps
from safetensors.numpy import save_file

from drawn_digits import drawn, like_mnist, write_dataset
from fastmlp import Net, _core, callbacks, cli, datasets

FILES = {cli.MODEL, cli.HISTORY, *cli.PICTURES}
SETTINGS = ["--layers", "32", "--epochs", "12", "--batch-size", "16", "--threads", "1"]


class Ran(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give a function that runs the command in this process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command replaces it

    def run_command(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        status = cli.main([str(argument) for argument in arguments])
        return Ran(status, *capsys.readouterr())

    return run_command


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the seconds that drawing takes, where the pictures are not the subject."""
    monkeypatch.setattr(cli, "_draw_pictures", lambda *_: [])


def run_process(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastmlp", *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Trained(NamedTuple):
    data: Path
    folder: Path
    process: subprocess.CompletedProcess[str]

    @property
    def model(self) -> Path:
        return self.folder / cli.MODEL


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train once, in a process of its own whose output is piped."""
    folder = tmp_path_factory.mktemp("cli")
    data = write_dataset(folder / "digits")
    process = run_process("train", "--dataset", data, "-o", folder / "run", *SETTINGS)
    assert process.returncode == 0, process.stderr
    return Trained(data, folder / "run", process)


def assert_refused(ran: Ran) -> str:
    """Check for one line of error, without traceback, and status 2; return the line."""
    assert ran.status == 2
    assert ran.err.startswith("Error: ")
    assert ran.err.count("\n") == 1
    assert ran.err.endswith("\n")
    assert "Traceback" not in ran.err
    return ran.err


def assert_no_control_characters(text: str) -> None:
    assert all(letter.isprintable() or letter == "\n" for letter in text), text


# train


def test_train_on_a_folder_writes_all_six_files(trained: Trained) -> None:
    assert {path.name for path in trained.folder.iterdir()} == FILES
    for name in cli.PICTURES:
        assert (trained.folder / name).read_bytes().startswith(b"\x89PNG")
    assert Net.load(trained.model).layer_sizes == (784, 32, 10)


def test_train_on_a_folder_prints_data_net_machine_and_test_accuracy(trained: Trained) -> None:
    lines = {line.split()[0]: line for line in trained.process.stdout.splitlines()}
    assert "138 images to train on, 12 for validation, 20 to test; 28 x 28 pixels" in lines["Data"]
    assert "784 -> 32 relu -> 10: 25,450 parameters, float32, seed 0" in lines["Net"]
    assert "1 thread (--threads)" in lines["Machine"]
    assert "accuracy" in lines["Test"]
    assert all(name in lines["Saved"] for name in FILES)


def test_train_on_drawn_digits_learns_them(trained: Trained) -> None:
    data = datasets.load(trained.data)
    assert Net.load(trained.model).evaluate(data.test.images, data.test.labels).accuracy >= 0.9


def test_train_with_piped_output_prints_no_control_characters(trained: Trained) -> None:
    assert_no_control_characters(trained.process.stdout + trained.process.stderr)


@pytest.mark.usefixtures("no_pictures")
def test_train_quiet_prints_results_only(trained: Trained, run: Run, tmp_path: Path) -> None:
    ran = run("train", "--dataset", trained.data, "-o", tmp_path / "run", *SETTINGS, "--quiet")
    assert ran.status == 0
    assert ran.err == ""
    assert [line.split()[0] for line in ran.out.splitlines()] == ["Test", "Saved"]
    assert_no_control_characters(ran.out)


@pytest.mark.usefixtures("no_pictures")
def test_train_with_the_same_seed_twice_gives_the_same_weights(
    trained: Trained, run: Run, tmp_path: Path
) -> None:
    for name, seed in (("same", "0"), ("other", "1")):
        run("train", "--dataset", trained.data, "-o", tmp_path / name, *SETTINGS, "--seed", seed)
    first, same, other = (
        Net.load(folder / cli.MODEL).weights[0]
        for folder in (trained.folder, tmp_path / "same", tmp_path / "other")
    )
    np.testing.assert_array_equal(same, first)
    assert not np.array_equal(other, first)


@pytest.mark.usefixtures("no_pictures")
def test_train_into_an_earlier_run_refuses_unless_told_to_overwrite(
    trained: Trained, run: Run, tmp_path: Path
) -> None:
    arguments = ["train", "--dataset", trained.data, "-o", tmp_path, "--layers", "none", "--steps", "2", "-q"]
    (tmp_path / cli.MODEL).write_bytes(b"precious")
    assert "--overwrite" in assert_refused(run(*arguments))
    assert (tmp_path / cli.MODEL).read_bytes() == b"precious"
    assert run(*arguments, "--overwrite").status == 0
    assert Net.load(tmp_path / cli.MODEL).layer_sizes == (784, 10)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--dataset", "no-such-data"], "no-such-data"),
        (["--layers", "foo"], "foo"),
        (["--layers", "20,0"], "20,0"),
        (["--layers", "99999999999"], "2147483647"),
        (["--epochs", "-1"], "-1"),
        (["--epochs", "2", "--steps", "2"], "--steps"),
        (["--learning-rate", "0"], "0"),
        (["--momentum", "0.5"], "--momentum"),
        (["--schedule", "sudden"], "sudden"),
        (["--initializer", "normal:1"], "normal:1"),
        (["--threads", "0"], "0"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_train_with_wrong_arguments_prints_one_line_and_exits_2(
    run: Run, tmp_path: Path, arguments: list[str], named: str
) -> None:
    ran = run("train", "-o", tmp_path / "run", *arguments)
    assert named in assert_refused(ran)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def no_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take MNIST away: nothing in the environment or the cache, and nowhere to download it from."""
    import pooch

    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(datasets, "_MNIST", dataclasses.replace(datasets._MNIST, mirrors=()))


@pytest.mark.usefixtures("no_mnist")
def test_train_on_mnist_that_cannot_be_had_never_falls_back(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "glyphs", lambda: pytest.fail("fell back on the glyphs"))
    ran = run("train", "--dataset", "mnist", "-o", tmp_path / "run")
    assert "FASTMLP_DATA" in assert_refused(ran)
    assert ran.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_mnist", "no_pictures")
def test_train_on_auto_without_mnist_falls_back_and_says_so(
    trained: Trained, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "glyphs", lambda: datasets.load(trained.data))  # drawing them takes seconds
    ran = run("train", "-o", tmp_path / "run", *SETTINGS, "--quiet")
    assert ran.status == 0
    assert ran.err.startswith("Using the built-in glyphs")
    assert (tmp_path / "run" / cli.MODEL).exists()


def interrupt_training(trained: Trained, folder: Path, *settings: str) -> str:
    """Train in a process of its own, press Ctrl-C after its first epoch, and return what it then says."""
    command = ["train", "--dataset", str(trained.data), "-o", str(folder), "--layers", "32", *settings]
    with subprocess.Popen(
        [sys.executable, "-m", "fastmlp", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            # The first line of all comes before the first step, the first one on an epoch after it.
            assert any(line.startswith("epoch ") for line in process.stdout)
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    return rest


def test_train_interrupted_exits_130_and_leaves_a_model_that_loads(trained: Trained, tmp_path: Path) -> None:
    rest = interrupt_training(trained, tmp_path / "run", "--epochs", "10000000", "--threads", "1")
    assert "Interrupted after step" in rest
    assert "--resume goes on" in rest
    assert "Traceback" not in rest
    assert {path.name for path in (tmp_path / "run").iterdir()} == {cli.MODEL, cli.HISTORY}
    net = Net.load(tmp_path / "run" / cli.MODEL)
    assert len(net.history.step_loss) > 0
    assert net.can_resume


class Press(callbacks.Callback):
    """Press Ctrl-C, as it were."""

    every = 20

    def on_step(self, net: Net, fit: callbacks.Fit) -> None:
        raise KeyboardInterrupt


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    "settings", [[], ["--patience", "2", "--optimizer", "sgd"], ["--schedule", "plateau"]]
)
def test_train_resumed_ends_with_the_same_weights_as_uninterrupted(
    trained: Trained, run: Run, tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ["train", "--dataset", trained.data]
    everything = [*SETTINGS, *settings]
    assert run(*train, "-o", tmp_path / "straight", *everything).status == 0
    with monkeypatch.context() as patch:
        patch.setattr(cli, "Progress", Press)
        assert run(*train, "-o", tmp_path / "run", *everything).status == 130
    assert "holds an earlier run" in assert_refused(run(*train, "-o", tmp_path / "run", *everything))
    ran = run(*train, "-o", tmp_path / "run", "--resume")
    assert ran.status == 0
    straight, resumed = (Net.load(tmp_path / name / cli.MODEL) for name in ("straight", "run"))
    np.testing.assert_array_equal(resumed.weights[0], straight.weights[0])
    np.testing.assert_array_equal(resumed.history.step_loss, straight.history.step_loss)
    assert resumed.history.notes == straight.history.notes
    assert all(note in ran.out for note in straight.history.notes)
    assert "came to its end" in assert_refused(run(*train, "-o", tmp_path / "run", "--resume"))


def test_train_resumed_refuses_settings_and_other_data(trained: Trained, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    interrupt_training(trained, folder, "--epochs", "10000000", "--threads", "1")
    before = (folder / cli.MODEL).read_bytes()
    resume = ["train", "-o", folder, "--resume"]
    ran = run(*resume, "--dataset", trained.data, "--epochs", "3")
    assert "--resume goes with --dataset, --output, --threads and --quiet only" in assert_refused(ran)
    data = datasets.load(trained.data)
    fewer = datasets.Split(data.train.images[1:], data.train.labels[1:])
    smaller = datasets.Split(data.train.images[:, 1:], data.train.labels)
    none = datasets.Split(data.validation.images[:0], data.validation.labels[:0])
    for other in (
        {"class_names": tuple("abcdefghij")},
        {"train": fewer},
        {"train": smaller},
        {"validation": none},
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(datasets, "load", lambda name, other=other: dataclasses.replace(data, **other))
            line = assert_refused(run(*resume, "--dataset", trained.data))
            assert f"is on another data set than {data.name}; name it with --dataset" in line
    assert (folder / cli.MODEL).read_bytes() == before


def test_train_resumed_in_a_folder_without_a_run_exits_2(trained: Trained, run: Run, tmp_path: Path) -> None:
    ran = run("train", "--dataset", trained.data, "-o", tmp_path / "none", "--resume")
    assert cli.MODEL in assert_refused(ran)
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("no_pictures")
def test_train_interrupted_before_its_first_step_leaves_nothing(
    trained: Trained, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PressAtOnce(callbacks.Callback):
        def on_fit_begin(self, net: Net, fit: callbacks.Fit) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli, "Progress", PressAtOnce)
    ran = run("train", "--dataset", trained.data, "-o", tmp_path / "run", *SETTINGS)
    assert ran.status == 130
    assert "nothing was saved" in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(("owner", "name"), [(Net, "evaluate"), (cli, "_draw_pictures")])
def test_train_interrupted_after_training_says_that_the_model_is_saved(
    trained: Trained, run: Run, tmp_path: Path, owner: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, press_ctrl_c)
    ran = run("train", "--dataset", trained.data, "-o", tmp_path, *SETTINGS, "--quiet")
    assert ran.status == 130
    assert f"Interrupted after training: saved {cli.MODEL} and {cli.HISTORY} in {tmp_path}" in ran.err
    assert len(Net.load(tmp_path / cli.MODEL).history.loss) == 12


@pytest.mark.usefixtures("no_pictures")
def test_train_interrupted_in_its_very_end_does_not_say_that_it_can_be_resumed(
    trained: Trained, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PressAtTheEnd(callbacks.Callback):
        def on_fit_end(self, net: Net, fit: callbacks.Fit) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli, "Progress", PressAtTheEnd)
    ran = run("train", "--dataset", trained.data, "-o", tmp_path, *SETTINGS)
    assert ran.status == 130
    assert ran.err.rstrip().endswith("training had come to its end")


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("settings", "constant"),
    [
        ([], False),
        (["--steps", "9"], True),
        (["--patience", "3"], True),
        (["--schedule", "constant"], True),
        (["--schedule", "one-cycle", "--steps", "9"], False),
    ],
)
def test_train_chooses_the_schedule_that_help_tells(
    trained: Trained, run: Run, tmp_path: Path, settings: list[str], constant: bool
) -> None:
    length = [] if "--steps" in settings else ["--epochs", "2"]
    run("train", "--dataset", trained.data, "-o", tmp_path, "--layers", "none", *length, *settings)
    rates = Net.load(tmp_path / cli.MODEL).history.learning_rate
    assert (len(set(rates)) == 1 and rates[0] == cli._ADAM_RATE) == constant


# evaluate, show, info


def test_evaluate_of_a_model_prints_its_accuracy_and_draws(
    trained: Trained, run: Run, tmp_path: Path
) -> None:
    ran = run("evaluate", trained.model, "--dataset", trained.data, "--plot", tmp_path / "matrix.png")
    assert ran.status == 0
    assert "accuracy" in ran.out
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")


def test_folder_of_a_training_stands_for_the_model_in_it(trained: Trained, run: Run) -> None:
    of_file, of_folder = (
        run("evaluate", model, "--dataset", trained.data) for model in (trained.model, trained.model.parent)
    )
    assert of_folder.out == of_file.out


def test_evaluate_of_a_missing_model_exits_2(trained: Trained, run: Run, tmp_path: Path) -> None:
    ran = run("evaluate", tmp_path / "none.safetensors", "--dataset", trained.data)
    assert "none.safetensors" in assert_refused(ran)


def test_show_of_a_folder_draws_a_sheet(trained: Trained, run: Run, tmp_path: Path) -> None:
    ran = run("show", trained.data, "-o", tmp_path / "sheet.png", "--count", "5")
    assert ran.status == 0
    assert "5 of 138 images" in ran.out
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_info_prints_version_processor_and_instruction_set(run: Run) -> None:
    ran = run("info")
    assert ran.status == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == [
        "fastmlp",
        "Python",
        "Compiler",
        "Processor",
        "Compiled",
        "In",
        "Threads",
    ]
    assert _core.selected_instruction_set()[0] in ran.out


def test_info_with_an_unknown_instruction_set_exits_2() -> None:
    done = run_process("info", FASTMLP_ISA="no-such-set")
    assert "FASTMLP_ISA" in assert_refused(Ran(done.returncode, done.stdout, done.stderr))


# predict


def test_predict_without_a_model_exits_2(run: Run, tmp_path: Path) -> None:
    assert "none.safetensors" in assert_refused(run("predict", tmp_path / "none.safetensors", "a.png"))


def test_predict_with_a_safetensors_file_of_something_else_exits_2(run: Run, tmp_path: Path) -> None:
    save_file({"other": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    assert "other.safetensors" in assert_refused(run("predict", tmp_path / "other.safetensors", "a.png"))


def save_variants(digit: int, folder: Path) -> list[Path]:
    """Save a digit as 28 x 28 pixels like MNIST's, and as nine other things that a user may have."""
    plain, large = Image.fromarray(like_mnist(digit)), drawn(digit, 300)
    black = Image.new("RGBA", large.size, "black")
    black.putalpha(large)
    colours = ImageOps.colorize(large, black="ivory", white="navy")
    variants = {
        "plain.png": plain,
        "inverted.png": ImageOps.invert(plain),
        "enlarged.png": plain.resize((280, 280), Image.Resampling.BICUBIC),
        "large.png": large,
        "large_inverted.png": ImageOps.invert(large),
        "coloured.png": colours,
        "transparent.png": black,
        "photo.jpg": colours,
        "palette.gif": colours.convert("P", palette=Image.Palette.ADAPTIVE),
        "wide.png": ImageOps.expand(large, (300, 40, 20, 10), fill=0),
    }
    for name, image in variants.items():
        image.save(folder / name)
    return [folder / name for name in variants]


@pytest.mark.parametrize("digit", range(10))
def test_predict_of_a_digit_in_any_guise_gives_the_same_class(
    trained: Trained, run: Run, tmp_path: Path, digit: int
) -> None:
    paths = save_variants(digit, tmp_path)
    ran = run("predict", trained.model, *paths, "--quiet")
    assert ran.status == 0
    found = {Path(line.split("\t")[0]).name: line.split("\t")[1] for line in ran.out.splitlines()}
    assert found == {path.name: str(digit) for path in paths}


def test_predict_prints_the_image_and_probabilities(trained: Trained, run: Run, tmp_path: Path) -> None:
    drawn(3).save(tmp_path / "three.png")
    ran = run("predict", trained.model, tmp_path / "three.png")
    assert ran.status == 0
    assert ran.out.startswith(f"{tmp_path / 'three.png'}: 3 (")
    assert sum(line.startswith("  |") for line in ran.out.splitlines()) == 14
    assert_no_control_characters(ran.out)


def write_text(path: Path) -> None:
    path.write_text("seven\n")


def write_blank(path: Path) -> None:
    Image.new("L", (50, 50), 255).save(path)


def write_one_pixel(path: Path) -> None:
    Image.new("L", (1, 1), 255).save(path)


def write_truncated(path: Path) -> None:
    drawn(4).save(path)
    path.write_bytes(path.read_bytes()[:300])


def write_nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize("write", [write_text, write_blank, write_one_pixel, write_truncated, write_nothing])
def test_predict_of_what_shows_no_digit_exits_2(
    trained: Trained, run: Run, tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "bad.png")
    ran = run("predict", trained.model, tmp_path / "bad.png")
    assert "bad.png" in assert_refused(ran)
    assert ran.out == ""


def test_predict_of_a_good_and_a_bad_image_does_the_good_and_exits_2(
    trained: Trained, run: Run, tmp_path: Path
) -> None:
    write_text(tmp_path / "bad.png")
    drawn(3).save(tmp_path / "good.png")
    ran = run("predict", trained.model, tmp_path / "bad.png", tmp_path / "good.png", "-q")
    assert "bad.png" in assert_refused(ran)
    assert ran.out.split("\t")[:2] == [str(tmp_path / "good.png"), "3"]


def test_predict_with_plot_writes_a_picture_and_replaces_none(
    trained: Trained, run: Run, tmp_path: Path
) -> None:
    drawn(3).save(tmp_path / "three.png")
    arguments = ["predict", trained.model, tmp_path / "three.png", "--plot", tmp_path / "plot.png"]
    assert run(*arguments).status == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "exists already" in assert_refused(run(*arguments))
