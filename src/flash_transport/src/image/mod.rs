//! Image work for robot cameras, equal to what openpi does with PIL.
