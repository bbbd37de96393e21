"""The lesson: teach a small net to read handwritten digits, look at what it learned, then go deeper.

Run it from anywhere: `python lesson.py`. Pictures go to the folder lesson-pictures, or to the one you name:
`python lesson.py --pictures FOLDER`; with --show they are opened, too. Without MNIST, and a network to get
it, the built-in digits stand in.
"""

import argparse
import webbrowser
from pathlib import Path

import numpy as np

from fastmlp import Adam, Net, Normal, datasets, plots

parser = argparse.ArgumentParser(description="The whole lesson in one script.")
parser.add_argument("--pictures", type=Path, default=Path("lesson-pictures"), help="folder for the pictures")
parser.add_argument("--show", action="store_true", help="open each picture, too")
parser.add_argument("--steps", type=int, default=1000, help="batches to train each net on (default 1000)")
arguments = parser.parse_args()
arguments.pictures.mkdir(parents=True, exist_ok=True)


def save(figure, name):
    path = arguments.pictures / name
    figure.savefig(path)
    print(f"  picture: {path}")
    if arguments.show:
        webbrowser.open(path.resolve().as_uri())


# 1. The data: 55,000 images to train on, 5,000 to watch, 10,000 to judge by; 28 x 28 pixels each, 0 to 255.
data, why_not_mnist = datasets.auto()
print(f"{data.name}: {len(data.train):,} images to train on", why_not_mnist or "")
images, labels = data.train.images, data.train.labels
test_images, test_labels = data.test.images, data.test.labels
save(plots.digit(images[0], labels[0]), "digit.png")
save(plots.digits(images[:40], labels[:40]), "digits.png")
save(plots.digits(images[:40], labels[:40], inverted=True), "digits_inverted.png")

# 2. The net: 784 pixels in, 200 hidden units, 10 digits out. The start is a poor one: every weight and bias
#    is drawn from N(0.5, 0.7), far too large. 1,000 random batches of 1,000 images; Adam.
net = Net([784, 200, 10], activation="relu", initializer=Normal(0.5, 0.7, bias_too=True), seed=0)
history = net.fit(images, labels, steps=arguments.steps, batch_size=1000, optimizer=Adam(learning_rate=0.001))
for step in range(0, len(history.step_loss), 50):
    print(f"  step {step:4d}: loss {history.step_loss[step]:8.4f}")
save(plots.learning_curves(history), "learning_curves.png")

# 3. How good is it on images it has never seen?
result = net.evaluate(test_images, test_labels)
print(f"One hidden layer, poor start: {result.accuracy:.1%} of the test images are right.")

# 4. Single digits beside a bar graph of the predicted probabilities: one right, one wrong.
is_right = net.predict(test_images) == test_labels
for name, i in [("right", np.flatnonzero(is_right)[0]), ("wrong", np.flatnonzero(~is_right)[0])]:
    save(plots.prediction(net, test_images[i], test_labels[i]), f"prediction_{name}.png")

# 5. Deeper, and from a good start: weights that keep the size of the signals (He et al., 2015).
deeper = Net([784, 400, 200, 10], activation="relu", initializer="he_normal", seed=0)
deeper.fit(images, labels, steps=arguments.steps, batch_size=1000, optimizer=Adam(learning_rate=0.001))
better = deeper.evaluate(test_images, test_labels)
print(f"Two hidden layers, good start: {better.accuracy:.1%} of the test images are right.")
save(plots.mistakes(deeper, test_images, test_labels, n=16), "mistakes_of_the_deeper_net.png")
