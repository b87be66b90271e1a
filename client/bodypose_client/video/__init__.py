"""People in video: frames in, frames with tracked people out."""
