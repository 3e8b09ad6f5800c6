/** Names of the classes, in the order of the scores. */
export declare const classNames: string[];
/** [channels, height, width] of an image; its bytes are in the order rows, columns, channels. */
export declare const inputShape: [number, number, number];
/** What one unit of a score is as a logit. */
export declare const scoreScale: number;
export interface Classified {
  classIndex: number;
  className: string;
  scores: Int32Array;
}
/** Classify one image. */
export declare function classify(image: Uint8Array | Uint8ClampedArray): Classified;
/** Classify images that lie one after another in one array. */
export declare function classifyBatch(images: Uint8Array): Classified[];
/** Turn scores into probabilities. */
export declare function probabilities(scores: ArrayLike<number>): number[];
/** Three images with all their scores; true if this machine gives the same. */
export declare function selfTest(): boolean;
