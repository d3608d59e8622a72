"""Tables of models, from zoo/*.json and the papers' pages."""

from _tables.text import figures_text, link, markdown, millions, size_text


def papers(sources, folder):
    """A row for each paper: what it changed, and the weights of it that come with the package."""
    rows = []
    for page in sources.pages:
        weights = [
            f"{card(manifest, sources, folder)}, {figures_text(manifest['metrics'], 1)} on "
            f"{manifest['data']['name']}"
            for manifest in trained(sources)
            if page_of_class(sources, manifest["class"]) is page
        ]
        rows.append(
            {
                "paper": f"{link(page.title, page.path, folder)}, {page.year}",
                "what it is": page.sentence,
                "weights in the package": "; ".join(weights),
            }
        )
    return markdown(rows)


def ablations(sources, folder):
    """A row for each paper whose page has ablations."""
    pages = [page for page in sources.pages if "\n## Ablations\n" in page.path.read_text("utf-8")]
    return "".join(
        f"- {link(page.title, page.path, folder).removesuffix(')')}#ablations)\n" for page in pages
    )


def models(sources, folder):
    """A row for each model whose weights come with the package."""
    return markdown([trained_row(manifest, sources, folder) for manifest in trained(sources)])


def trained_row(manifest, sources, folder):
    """One model that was trained here."""
    return {
        "weights": card(manifest, sources, folder),
        "model": model_link(manifest["class"], sources, folder),
        "measured on": manifest["evaluation"]["data"],
        "figures": figures_text(manifest["metrics"]),
        "parameters": millions(manifest["parameters"]),
        "file": size_text(manifest),
        "minutes of training": manifest["training"]["minutes"],
        "licence": manifest["weights"]["licence"],
    }


def published(sources, folder):
    """A row for each model whose weights others have published, detectors first."""
    manifests = [manifest for manifest in sources.manifests if manifest.get("published")]
    manifests.sort(key=lambda m: (m["task"] in ("classification", "features"), m["name"]))
    return markdown([published_row(manifest, sources, folder) for manifest in manifests])


def published_row(manifest, sources, folder):
    """One model that others have trained."""
    source = manifest["published"]
    return {
        "weights": f"`{manifest['name']}`",
        "model": model_link(manifest["class"], sources, folder),
        "measured on": source["data"],
        "published figures": ", ".join(
            f"{name.replace('_', ' ')} {value:.3f}" for name, value in source["metrics"].items()
        ),
        "parameters": millions(manifest["parameters"]),
        "file": size_text(manifest),
        "licence": manifest["weights"]["licence"],
    }


def trained(sources):
    """Manifests of the weights that come with the package."""
    return [manifest for manifest in sources.manifests if "file" in manifest["weights"]]


def card(manifest, sources, folder):
    """A link to a model's card."""
    name = manifest["name"]
    return link(name, sources.root / "zoo" / f"{name}.md", folder)


def model_link(name, sources, folder):
    """A model class as a link to its paper's page, under the title of its file."""
    model = sources.file_of_class(name)
    page = model and sources.page_of(model)
    return link(model.title, page.path, folder) if page else f"`{name}`"


def page_of_class(sources, name):
    """The page of a model class's paper; None where it has none."""
    model = sources.file_of_class(name)
    return model and sources.page_of(model)
