// Owns the webcam: frames as encoded images, one at a time, as fast as they are taken.

const LONGEST_SIDE = 960;
const JPEG_QUALITY = 0.85;

/** An open webcam. */
export class Camera {
  static async open() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("this browser gives pages no webcam; open the page as http://127.0.0.1");
    }
    const wanted = { width: { ideal: 1280 }, height: { ideal: 720 } };
    const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    const video = document.createElement("video");
    video.muted = true;
    video.playsInline = true;
    video.srcObject = stream;
    await video.play();
    return new Camera(stream, video);
  }

  constructor(stream, video) {
    this.stream = stream;
    this.video = video;
    this.canvas = document.createElement("canvas");
  }

  /** The current frame as a JPEG blob. */
  async frame() {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(videoWidth, videoHeight));
    this.canvas.width = Math.round(videoWidth * scale);
    this.canvas.height = Math.round(videoHeight * scale);
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    return new Promise((done) => this.canvas.toBlob(done, "image/jpeg", JPEG_QUALITY));
  }

  get ended() {
    return this.stream.getVideoTracks().every((track) => track.readyState === "ended");
  }

  close() {
    for (const track of this.stream.getTracks()) track.stop();
  }
}
