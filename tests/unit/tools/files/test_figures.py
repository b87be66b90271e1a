from bodypose_tools.files.figures import png_axes


def test_the_same_numbers_give_the_same_bytes_and_name_no_version(tmp_path):
    for name in ("one.png", "two.png"):
        with png_axes(tmp_path / name, (3, 2)) as axes:
            axes.plot([1, 2], [3, 4])

    content = (tmp_path / "one.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content == (tmp_path / "two.png").read_bytes()
    assert b"matplotlib" not in content.lower()
